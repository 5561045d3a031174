select customers.name as customer, coalesce(sum(orders.price), 0) as total
from {{ source('public', 'customers') }} as customers
left join {{ source('public', 'orders') }} as orders on orders.customer_id = customers.id
group by customers.name
