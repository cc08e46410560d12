-- One row a tracked product, in units. on_hand = received + adjusted + returned - shipped.
create table read.stock (
    tenant integer not null,
    sku text collate "C" not null,
    name text,
    discontinued boolean not null default false,    -- not sold any more
    on_hand bigint not null default 0,
    reserved bigint not null default 0,     -- of on_hand, promised to orders
    received bigint not null default 0,
    adjusted bigint not null default 0,     -- signed
    shipped bigint not null default 0,
    returned bigint not null default 0,
    updated_at timestamptz not null,
    primary key (tenant, sku)
) with (fillfactor = 50);                   -- rows change all the time: room for the new version
