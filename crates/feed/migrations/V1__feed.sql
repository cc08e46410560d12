-- What the relay has seen acknowledged: a hint that saves reading a topic from its beginning.
-- Kafka itself stays the authority: at start a relay reads on from here and believes what it finds.

create schema if not exists feed;

create table feed.partitions (
    topic text not null,
    partition integer not null check (partition >= 0),
    incarnation uuid not null,          -- of the journal that was being published
    next_offset bigint not null check (next_offset > 0),
    last_tenant integer not null,       -- whose event stands at next_offset - 1,
    last_position bigint not null,      -- and which: tells a topic that was made anew
    noted_at timestamptz not null default clock_timestamp(),
    primary key (topic, partition)
);

-- Up to which position each tenant's events stand before `next_offset`.
create table feed.positions (
    topic text not null,
    partition integer not null,
    tenant integer not null,
    position bigint not null check (position > 0),
    primary key (topic, partition, tenant),
    foreign key (topic, partition) references feed.partitions on delete cascade
);
