select "order" as order_id, count(*) as number
from {{ source('public', 'order_lines') }}
group by "order"
