//! What is served at the moment: the declared queries, their routes and their description.

use std::sync::Arc;

use daybook_commands::CommandInfo;
use daybook_projection::{Declared, DeclaredQuery, Description, Queries, QueryError};
use tokio::sync::OnceCell;
use warp::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    reply::Response,
};

use crate::{app, limits::Limits, openapi, page, request, routes::Routes, service};

/// The queries of one moment with all that follows from them.
pub(crate) struct Surface {
    pub(crate) declared: Arc<Declared>,
    pub(crate) routes: Routes,
    /// Those of the listener for operations.
    pub(crate) operations: Routes,
    /// What each query answers; known once PostgreSQL was asked.
    descriptions: Vec<OnceCell<Arc<Description>>>,
    /// The documents with the types that PostgreSQL reports.
    typed: OnceCell<Documents>,
    commands: Vec<CommandInfo>,
    limits: Limits,
}

/// The description of the API, for programs and for people.
struct Documents {
    openapi: String,
    etag: String,
    page: String,
}

impl Surface {
    pub(crate) fn new(declared: Arc<Declared>, limits: &Limits) -> Self {
        let commands = daybook_commands::catalogue();
        let routes = Routes::new(&commands, &declared.queries);
        let descriptions = declared.queries.iter().map(|_| OnceCell::new()).collect();
        let limits = limits.clone();
        let operations = Routes::of_operations();
        Self {
            declared,
            routes,
            operations,
            descriptions,
            typed: OnceCell::new(),
            commands,
            limits,
        }
    }

    /// The query at a place.
    pub(crate) fn query(&self, index: usize) -> &DeclaredQuery {
        &self.declared.queries[index]
    }

    /// What the query at this place answers, as PostgreSQL reports it.
    pub(crate) async fn description(
        &self,
        runner: &Queries,
        index: usize,
    ) -> Result<Arc<Description>, QueryError> {
        let describe = async || runner.describe(self.query(index)).await.map(Arc::new);
        self.descriptions[index].get_or_try_init(describe).await.cloned()
    }

    pub(crate) async fn openapi(&self, runner: &Queries, headers: &HeaderMap) -> Response {
        self.with_documents(runner, |documents| {
            let mut response = if request::etag_matches(headers, &documents.etag) {
                let mut response = Response::default();
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                response
            } else {
                app::json(StatusCode::OK, documents.openapi.clone())
            };
            let headers = response.headers_mut();
            service::set_etag(headers, &documents.etag);
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            response
        })
        .await
    }

    pub(crate) async fn docs(&self, runner: &Queries) -> Response {
        self.with_documents(runner, |documents| {
            let mut response = service::text("text/html; charset=utf-8", documents.page.clone());
            response.headers_mut().insert(
                header::CONTENT_SECURITY_POLICY,
                HeaderValue::from_static(
                    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
                ),
            );
            response
        })
        .await
    }

    /// The documents; without the queries' types while PostgreSQL can't be asked.
    async fn with_documents(
        &self,
        runner: &Queries,
        answer: impl FnOnce(&Documents) -> Response,
    ) -> Response {
        let typed = async || {
            let mut known = Vec::new();
            for (index, query) in self.declared.queries.iter().enumerate() {
                known.push(match self.description(runner, index).await {
                    Ok(description) => Some(description),
                    // One query that PostgreSQL refuses takes the types of no other away.
                    Err(QueryError::Database(error)) if error.as_db_error().is_some() => {
                        tracing::warn!(query = query.name, %error, "a query can't be described");
                        None
                    }
                    Err(error) => return Err(error),
                });
            }
            Ok(self.documents(&known))
        };
        match self.typed.get_or_try_init(typed).await {
            Ok(documents) => answer(documents),
            Err(error) => {
                tracing::debug!(%error, "the queries' types are not known yet");
                answer(&self.documents(&vec![None; self.declared.queries.len()]))
            }
        }
    }

    fn documents(&self, descriptions: &[Option<Arc<Description>>]) -> Documents {
        let document = openapi::document(
            &self.routes,
            &self.commands,
            &self.declared.queries,
            descriptions,
            &self.limits,
        );
        let openapi = document.to_string();
        Documents { etag: service::etag(&openapi), openapi, page: page::render(&document) }
    }
}
