//! Declared read models: a folder with a table, a key query, a fold and queries becomes rows that
//! follow the journal. This crate appends nothing and never speaks to Kafka but through `feed`.

mod as_of;
mod batch;
mod catalogue;
mod check;
mod copied;
mod definition;
mod describe;
mod diff;
mod example;
mod generate;
mod install;
mod lexer;
mod lifecycle;
mod measure;
mod notify;
mod parameter;
mod parked;
mod projector;
mod queries;
mod rebuild;
mod status;
mod versions;
mod watch;
mod worker;

pub use as_of::{AsOf, AsOfLimits};
pub use catalogue::Catalogue;
pub use check::{Checked, check};
pub use definition::{AnswerShape, CatalogueError, DeclaredQuery, Definition, Format, OnError};
pub use describe::{Column, Description};
pub use diff::{DiffReport, RowDiff, diff};
pub use example::Example;
pub use install::{Change, InstallError, Installed, add, install, migrate};
pub use lifecycle::{LifecycleError, drop_projection, drop_version, find_version, switch};
pub use measure::MeasuredFold;
pub use notify::{Changes, News, ReadChange, ReadPositions, ReadPositionsTask};
pub use parameter::{Parameter, ParameterKind, Place, TEXT_MAX};
pub use parked::{Parked, parked, retry};
pub use projector::{Projector, ProjectorSettings};
pub use queries::{
    Answer, Declared, LIMIT_DEFAULT, LIMIT_MAX, PrincipalScope, Queries, QueriesTask, QueryError,
    statements,
};
pub use rebuild::{RebuildDeps, RebuildError, RebuildReport, Source, rebuild};
pub use status::{ProjectionStatus, StatusError, StopReason, Stopped, status};
pub use versions::{Version, VersionState, installed};
