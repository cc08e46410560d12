//! Relay and subscription against a real PostgreSQL and a real Kafka: `./scripts/test` starts them.

#[cfg(test)]
mod check;
#[cfg(test)]
mod kit;
#[cfg(test)]
mod publisher;
#[cfg(test)]
mod relay;
#[cfg(test)]
mod subscription;
