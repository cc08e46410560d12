//! The program as its users meet it: real processes over HTTP, on real PostgreSQL and Kafka.

mod bad_requests;
mod durability;
mod exports;
mod feed;
mod feed_survives;
mod flow;
mod idempotency;
mod interface;
mod last_units;
mod limits;
mod linearizable;
mod logins;
mod privileges;
mod projections;
mod reads_apart;
mod replay;
mod restores;
mod roles;
mod schemas;
mod stopped;
mod streams;
