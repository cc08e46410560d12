case e.type
when 'ProductAdded' then
    if e.data->>'name' = 'poison' then raise exception 'this can not be offered'; end if;
    r.name := e.data->>'name';
    r.price := (e.data->>'price')::bigint;
when 'PriceChanged' then
    r.was := r.price;
    r.price := (e.data->>'price')::bigint;
    r.history := r.history || (e.data->'price');
end case;
