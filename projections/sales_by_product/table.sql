-- One row a product and currency. Goodwill belongs to no product.
-- Units are pieces; money is in minor units of `currency`.
create table read.sales_by_product (
    tenant integer not null,
    sku text collate "C" not null,
    currency text collate "C" not null,
    orders bigint not null default 0,
    units bigint not null default 0,
    sales bigint not null default 0,            -- amounts of the lines placed
    returned_units bigint not null default 0,
    returned bigint not null default 0,         -- credits of returned lines
    cancelled_units bigint not null default 0,
    cancelled bigint not null default 0,        -- credits of cancelled and expired lines
    primary key (tenant, sku, currency)
) with (fillfactor = 50);
