declare
    quantity bigint := (part->>0)::bigint;
begin
    case e.type
    when 'StockReserved' then
        r.reserved := r.reserved + quantity;
    when 'StockShipped' then
        r.reserved := r.reserved - quantity;
        r.on_hand := r.on_hand - quantity;
        r.shipped := r.shipped + quantity;
    when 'StockReleased' then
        r.reserved := r.reserved - quantity;
    when 'StockReturned' then
        r.on_hand := r.on_hand + quantity;
        r.returned := r.returned + quantity;
    when 'StockReceived' then
        r.on_hand := r.on_hand + quantity;
        r.received := r.received + quantity;
    when 'StockAdjusted' then
        r.on_hand := r.on_hand + quantity;
        r.adjusted := r.adjusted + quantity;
    when 'ProductAdded' then
        r.name := part->>1;
    when 'ProductDiscontinued' then
        if r.name is null then return null; end if;     -- no stock is kept of it
        r.discontinued := true;
    end case;
    r.updated_at := e.occurred_at;
end;
