//! Declared read models: a folder with a table, a key query, a fold and queries becomes rows that
//! follow the journal. This crate appends nothing and never speaks to Kafka but through `feed`.

mod catalogue;
mod generate;
mod install;
mod lexer;
mod parameter;

pub use catalogue::{AnswerShape, Catalogue, CatalogueError, DeclaredQuery, Definition};
pub use install::{InstallError, install, migrate};
pub use parameter::{Parameter, ParameterKind, Place};
