select spent.customer, spent.total - coalesce(sum(invoices.paid), 0) as total
from {{ ref('spent') }} as spent
left join {{ source('billing', 'invoices') }} as invoices on invoices.customer = spent.customer
group by spent.customer, spent.total
