-- One row a day and currency: what was placed, returned and cancelled on that day.
-- Units are pieces; money is in minor units of `currency`.
create table read.sales_by_day (
    tenant integer not null,
    day date not null,                          -- UTC day of occurred_at
    currency text collate "C" not null,
    orders bigint not null default 0,
    units bigint not null default 0,
    sales bigint not null default 0,            -- totals of the orders placed, with shipping and tax
    returned_units bigint not null default 0,
    returned bigint not null default 0,         -- credits of returned lines
    cancelled_units bigint not null default 0,
    cancelled bigint not null default 0,        -- credits of cancelled and expired orders
    goodwill bigint not null default 0,         -- credits without a line
    primary key (tenant, day, currency)
) with (fillfactor = 50);
