declare
    units bigint := (part->>0)::bigint;
    amount bigint := (part->>1)::bigint;
begin
    case e.type
    when 'OrderPlaced' then
        r.orders := r.orders + 1;
        r.units := r.units + units;
        r.sales := r.sales + amount;
    when 'OrderItemsReturned' then
        r.returned_units := r.returned_units + units;
        r.returned := r.returned + amount;
    when 'OrderCancelled', 'OrderExpired' then
        r.cancelled_units := r.cancelled_units + units;
        r.cancelled := r.cancelled + amount;
    end case;
end;
