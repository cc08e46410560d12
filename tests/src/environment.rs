//! What the surroundings must name: the services and the program under test.

use std::path::PathBuf;

/// Services and program, from the environment.
#[derive(Debug, Clone)]
pub struct Environment {
    /// A superuser's connection to the PostgreSQL server in which databases are made.
    pub database_url: String,
    /// Brokers of the Kafka cluster in which topics are made.
    pub kafka_brokers: String,
    /// The `daybook` binary.
    pub program: PathBuf,
}

impl Environment {
    /// Reads `DAYBOOK_TEST_DATABASE_URL`, `DAYBOOK_TEST_KAFKA_BROKERS` and `DAYBOOK_TEST_BIN`.
    ///
    /// # Panics
    /// When one is missing, with what to do about it.
    pub fn read() -> Self {
        let environment = Self {
            database_url: required("DAYBOOK_TEST_DATABASE_URL"),
            kafka_brokers: required("DAYBOOK_TEST_KAFKA_BROKERS"),
            program: PathBuf::from(required("DAYBOOK_TEST_BIN")),
        };
        assert!(
            environment.program.is_file(),
            "DAYBOOK_TEST_BIN={} is no file; ./scripts/test integration builds and names it",
            environment.program.display()
        );
        environment
    }
}

fn required(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_missing| {
        panic!(
            "{name} is not set: this test needs real services. Run ./scripts/test integration \
             (TEST_FILTER=<name> runs one), which starts them"
        )
    })
}
