//! The table of routes: what is matched, documented and counted is read from here alone.

use std::collections::HashMap;

use daybook_commands::CommandInfo;
use daybook_identity::Role;
use daybook_projection::DeclaredQuery;
use warp::http::Method;

/// Who may use a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Everybody, without a key.
    Public,
    /// Every principal.
    Principal,
    /// Principals with one of these roles.
    Roles(Vec<Role>),
}

/// What answers a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Livez,
    /// Whether requests would be served, and no more.
    Readyz,
    /// The same with the state of each part.
    Readiness,
    Metrics,
    OpenApi,
    Docs,
    Problem,
    /// One of [`daybook_commands::catalogue`], by its name.
    Command(&'static str),
    /// Any other name of a command.
    NoCommand,
    ByKey,
    Stream,
    Events,
    /// The same, followed as they happen.
    LiveEvents,
    /// One of the declared queries, by its place in the list.
    Query(usize),
    /// The same, followed as its answer changes.
    Live(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Fixed(String),
    Parameter(String),
}

/// A method and path with what answers it.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) method: Method,
    /// Path with parameters in braces.
    pub(crate) template: String,
    pub(crate) scope: Scope,
    pub(crate) endpoint: Endpoint,
    segments: Vec<Segment>,
}

/// Every route, more exact paths first.
#[derive(Debug)]
pub(crate) struct Routes {
    routes: Vec<Route>,
}

/// What a request's method and path lead to.
#[derive(Debug)]
pub(crate) enum Match<'a> {
    /// A route, with the decoded parameters of its path.
    Found(&'a Route, HashMap<String, String>),
    /// The path exists with these methods only.
    Method(String),
    /// No such path.
    Nothing,
}

impl Route {
    fn new(method: Method, template: &str, scope: Scope, endpoint: Endpoint) -> Self {
        let segments = template
            .trim_start_matches('/')
            .split('/')
            .map(|s| match s.strip_prefix('{').and_then(|s| s.strip_suffix('}')) {
                Some(name) => Segment::Parameter(name.to_owned()),
                None => Segment::Fixed(s.to_owned()),
            })
            .collect();
        Self { method, template: template.to_owned(), scope, endpoint, segments }
    }

    fn parameters(&self, path: &[String]) -> Option<HashMap<String, String>> {
        if path.len() != self.segments.len() {
            return None;
        }
        let mut parameters = HashMap::new();
        for (segment, text) in self.segments.iter().zip(path) {
            match segment {
                Segment::Fixed(fixed) if fixed == text => {}
                Segment::Parameter(name) if !text.is_empty() => {
                    parameters.insert(name.clone(), text.clone());
                }
                Segment::Fixed(_) | Segment::Parameter(_) => return None,
            }
        }
        Some(parameters)
    }
}

impl Routes {
    /// The service's own routes, one for each command and one for each declared query.
    pub(crate) fn new(commands: &[CommandInfo], queries: &[DeclaredQuery]) -> Self {
        let get =
            |template: &str, scope, endpoint| Route::new(Method::GET, template, scope, endpoint);
        let mut routes = vec![
            get("/livez", Scope::Public, Endpoint::Livez),
            get("/readyz", Scope::Public, Endpoint::Readyz),
            get("/openapi.json", Scope::Public, Endpoint::OpenApi),
            get("/docs", Scope::Public, Endpoint::Docs),
            get("/problems/{code}", Scope::Public, Endpoint::Problem),
            get("/v1/commands/by-key/{key}", Scope::Principal, Endpoint::ByKey),
            get(
                "/v1/streams/{stream}",
                Scope::Roles(vec![Role::Operator, Role::Auditor]),
                Endpoint::Stream,
            ),
            get(
                "/v1/events",
                Scope::Roles(vec![Role::Operator, Role::Analyst, Role::Auditor]),
                Endpoint::Events,
            ),
            get(
                "/v1/events/live",
                Scope::Roles(vec![Role::Operator, Role::Analyst, Role::Auditor]),
                Endpoint::LiveEvents,
            ),
        ];
        for command in commands {
            routes.push(Route::new(
                Method::POST,
                &format!("/v1/commands/{}", command.name),
                Scope::Roles(roles(command.roles)),
                Endpoint::Command(command.name),
            ));
        }
        for (index, query) in queries.iter().enumerate() {
            routes.push(get(
                &query.path,
                Scope::Roles(roles(&query.roles)),
                Endpoint::Query(index),
            ));
            if query.live {
                routes.push(get(
                    &format!("{}/live", query.path),
                    Scope::Roles(roles(&query.roles)),
                    Endpoint::Live(index),
                ));
            }
        }
        routes.push(Route::new(
            Method::POST,
            "/v1/commands/{name}",
            Scope::Principal,
            Endpoint::NoCommand,
        ));
        // Stable: a fixed segment is tried before a parameter in the same place.
        routes.sort_by_key(|route| {
            route
                .segments
                .iter()
                .map(|segment| matches!(segment, Segment::Parameter(_)))
                .collect::<Vec<_>>()
        });
        Self { routes }
    }

    /// The routes of the listener for operations.
    pub(crate) fn of_operations() -> Self {
        let get =
            |template: &str, endpoint| Route::new(Method::GET, template, Scope::Public, endpoint);
        Self {
            routes: vec![
                get("/livez", Endpoint::Livez),
                get("/readyz", Endpoint::Readiness),
                get("/metrics", Endpoint::Metrics),
            ],
        }
    }

    /// The routes, for the documentation.
    pub(crate) fn all(&self) -> &[Route] {
        &self.routes
    }

    /// The route of a request. `HEAD` is answered wherever `GET` is.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Match<'_> {
        let Some(path) = decode(path) else { return Match::Nothing };
        let wanted = if method == Method::HEAD { &Method::GET } else { method };
        let mut allowed: Vec<&str> = Vec::new();
        for route in &self.routes {
            let Some(parameters) = route.parameters(&path) else { continue };
            if route.method == wanted {
                return Match::Found(route, parameters);
            }
            let methods: &[&str] =
                if route.method == Method::GET { &["GET", "HEAD"] } else { &["POST"] };
            for method in methods {
                if !allowed.contains(method) {
                    allowed.push(method);
                }
            }
        }
        if allowed.is_empty() { Match::Nothing } else { Match::Method(allowed.join(", ")) }
    }
}

fn roles<S: AsRef<str>>(names: &[S]) -> Vec<Role> {
    // A name that is no role lets nobody in.
    names.iter().filter_map(|name| name.as_ref().parse().ok()).collect()
}

/// Decoded segments of a path; `None` if they are not UTF-8.
fn decode(path: &str) -> Option<Vec<String>> {
    path.strip_prefix('/')?
        .split('/')
        .map(|segment| {
            percent_encoding::percent_decode_str(segment)
                .decode_utf8()
                .ok()
                .map(std::borrow::Cow::into_owned)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use daybook_commands::Answer;
    use serde_json::Value;

    use super::*;

    fn routes() -> Routes {
        let command = |name, roles| CommandInfo {
            name,
            title: "",
            roles,
            schema: Value::Null,
            examples: Vec::new(),
            accepted: Answer { streams: Vec::new(), result: Value::Null, open: false },
            refusals: Vec::new(),
        };
        Routes::new(
            &[command("PlaceOrder", &["customer", "operator"]), command("Odd", &["nobody"])],
            &[],
        )
    }

    fn found(method: &Method, path: &str) -> Option<(Endpoint, HashMap<String, String>)> {
        match routes().find(method, path) {
            Match::Found(route, parameters) => Some((route.endpoint.clone(), parameters)),
            Match::Method(_) | Match::Nothing => None,
        }
    }

    #[test]
    fn a_command_has_a_route_of_its_own_and_an_unknown_name_another() {
        let (endpoint, _) = found(&Method::POST, "/v1/commands/PlaceOrder").unwrap();
        assert_eq!(endpoint, Endpoint::Command("PlaceOrder"));
        let (endpoint, parameters) = found(&Method::POST, "/v1/commands/Nope").unwrap();
        assert_eq!(endpoint, Endpoint::NoCommand);
        assert_eq!(parameters["name"], "Nope");
    }

    #[test]
    fn path_parameters_are_decoded_after_the_path_is_cut() {
        let (endpoint, parameters) = found(&Method::GET, "/v1/streams/stock-a%2Fb%20c").unwrap();
        assert_eq!(endpoint, Endpoint::Stream);
        assert_eq!(parameters["stream"], "stock-a/b c");
        assert!(found(&Method::GET, "/v1/streams/stock-a/b").is_none());
        assert!(found(&Method::GET, "/v1/streams/%ff").is_none());
    }

    #[test]
    fn head_is_answered_like_get() {
        assert_eq!(found(&Method::HEAD, "/livez").unwrap().0, Endpoint::Livez);
        assert!(found(&Method::HEAD, "/v1/commands/PlaceOrder").is_none());
    }

    #[test]
    fn a_wrong_method_says_which_there_are() {
        let allow = |method, path: &str| match routes().find(&method, path) {
            Match::Method(allow) => allow,
            other => panic!("{other:?}"),
        };
        assert_eq!(allow(Method::POST, "/livez"), "GET, HEAD");
        assert_eq!(allow(Method::GET, "/v1/commands/PlaceOrder"), "POST");
        assert_eq!(allow(Method::DELETE, "/v1/commands/Nope"), "POST");
    }

    #[test]
    fn no_path_is_guessed() {
        for path in
            ["", "/", "/livez/", "//livez", "/v1/streams/", "/v2/events", "/v1/commands", "*"]
        {
            assert!(matches!(routes().find(&Method::GET, path), Match::Nothing), "{path:?}");
        }
    }

    #[test]
    fn every_route_but_those_about_the_service_itself_has_a_scope() {
        for route in routes().all() {
            if route.template.starts_with("/v1/") {
                assert_ne!(route.scope, Scope::Public, "{}", route.template);
            }
        }
        for shown in [Endpoint::Metrics, Endpoint::Readiness] {
            let is_public = routes().all().iter().any(|route| route.endpoint == shown);
            assert!(!is_public, "{shown:?} is for operations alone");
        }
        let nobody = Scope::Roles(Vec::new());
        let routes = routes();
        let odd = routes.all().iter().find(|r| r.endpoint == Endpoint::Command("Odd")).unwrap();
        assert_eq!(odd.scope, nobody, "an unknown role lets nobody in");
    }
}
