//! Declared read models: a folder with a table, a key query, a fold and queries becomes rows that
//! follow the journal. This crate appends nothing and never speaks to Kafka but through `feed`.

mod batch;
mod catalogue;
mod generate;
mod install;
mod lexer;
mod notify;
mod parameter;
mod projector;
mod queries;
mod rebuild;
mod status;
mod worker;

pub use catalogue::{AnswerShape, Catalogue, CatalogueError, DeclaredQuery, Definition};
pub use install::{InstallError, install, migrate};
pub use notify::{ReadPositions, ReadPositionsTask};
pub use parameter::{Parameter, ParameterKind, Place};
pub use projector::{Projector, ProjectorSettings};
pub use queries::{Answer, PrincipalScope, Queries, QueryError};
pub use rebuild::{RebuildDeps, RebuildError, RebuildReport, Source, rebuild};
pub use status::{ProjectionStatus, StopReason, status};
