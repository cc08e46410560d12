create table read.offers (
    tenant integer not null,
    sku text collate "C" not null,
    name text not null,
    price bigint not null,
    was bigint,
    history jsonb not null default '[]',
    primary key (tenant, sku)
);
comment on column read.offers.history is 'newest last';
