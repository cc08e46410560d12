-- One row a country and currency.
-- Units are pieces; money is in minor units of `currency`.
create table read.sales_by_country (
    tenant integer not null,
    country text collate "C" not null,            -- '' where the order names none
    currency text collate "C" not null,
    orders bigint not null default 0,
    units bigint not null default 0,
    sales bigint not null default 0,            -- totals of the orders placed, with shipping and tax
    returned_units bigint not null default 0,
    returned bigint not null default 0,         -- credits of returned lines
    cancelled_units bigint not null default 0,
    cancelled bigint not null default 0,        -- credits of cancelled and expired orders
    goodwill bigint not null default 0,         -- credits without a line
    primary key (tenant, country, currency)
) with (fillfactor = 50);
