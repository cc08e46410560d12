//! Pages for people: the documentation and the kinds of problems, plain HTML without a script.

use std::fmt::Write as _;

use serde_json::{Value, json};
use warp::{
    http::{HeaderValue, StatusCode, header},
    reply::Response,
};

use crate::{
    app,
    problem::{Failure, KINDS, Problem},
};

const STYLE: &str = include_str!("page.css");

/// What a kind of problem means, or a kind of refusal.
pub(crate) fn problem(code: &str) -> Result<Response, Failure> {
    let body = if let Some(kind) = KINDS.iter().find(|kind| kind.code == code) {
        json!({
            "type": format!("/problems/{}", kind.code),
            "title": kind.title,
            "status": kind.status.as_u16(),
            "help": kind.help,
        })
    } else {
        let mut refusals = daybook_commands::refusals().into_iter();
        let info = refusals.find(|info| info.refusal.code == code).ok_or(Failure::NotFound)?;
        let example = Problem::refusal(info.refusal);
        json!({
            "type": format!("/problems/{code}"),
            "title": example.title,
            "status": example.status.as_u16(),
            "help": info.help,
            "example": example.to_json(),
        })
    };
    let mut response = app::json(StatusCode::OK, body.to_string());
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    Ok(response)
}

/// The OpenAPI document as one page.
pub(crate) fn render(document: &Value) -> String {
    let mut page = String::new();
    let info = &document["info"];
    head(&mut page, text(&info["title"]));
    line(&mut page, "p", text(&info["description"]));
    page.push_str("<p><a href=\"/openapi.json\">openapi.json</a></p>\n");
    let tags = document["tags"].as_array().map(Vec::as_slice).unwrap_or_default();
    for tag in tags {
        line(&mut page, "h2", text(&tag["name"]));
        line(&mut page, "p", text(&tag["description"]));
        for (path, item) in members(&document["paths"]) {
            for (method, operation) in members(item) {
                if operation["tags"][0] == tag["name"] {
                    operation_html(&mut page, document, method, path, operation);
                }
            }
        }
    }
    page.push_str("</main></body></html>\n");
    page
}

fn head(page: &mut String, title: &str) {
    let title = escape(title);
    writeln!(
        page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
         <style>{STYLE}</style></head><body><main><h1>{title}</h1>"
    )
    .expect(INFALLIBLE);
}

fn operation_html(
    page: &mut String,
    document: &Value,
    method: &str,
    path: &str,
    operation: &Value,
) {
    writeln!(
        page,
        "<details id=\"{}\"><summary><b>{}</b> <code>{}</code> {}</summary>",
        escape(text(&operation["operationId"])),
        escape(&method.to_uppercase()),
        escape(path),
        escape(text(&operation["summary"])),
    )
    .expect(INFALLIBLE);
    line(page, "p", text(&operation["description"]));
    let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !parameters.is_empty() {
        page.push_str("<table><tr><th>parameter</th><th>in</th><th>meaning</th></tr>\n");
        for parameter in parameters {
            let parameter = resolve(document, parameter);
            let required = if parameter["required"] == true { " (required)" } else { "" };
            writeln!(
                page,
                "<tr><td><code>{}</code>{required}</td><td>{}</td><td>{}</td></tr>",
                escape(text(&parameter["name"])),
                escape(text(&parameter["in"])),
                escape(text(&parameter["description"])),
            )
            .expect(INFALLIBLE);
        }
        page.push_str("</table>\n");
    }
    let body = &operation["requestBody"]["content"]["application/json"];
    if !body.is_null() {
        for (_, example) in members(&body["examples"]) {
            line(page, "p", &format!("Body, for example: {}", text(&example["summary"])));
            pre(page, &example["value"]);
        }
        page.push_str("<p>Schema</p>");
        pre(page, resolve(document, &body["schema"]));
    }
    if operation["tags"][0] == "Queries" {
        answer_html(page, document, &operation["responses"]["200"]["content"]);
    }
    page.push_str("<table><tr><th>status</th><th>meaning</th></tr>\n");
    for (status, response) in members(&operation["responses"]) {
        let response = resolve(document, response);
        writeln!(
            page,
            "<tr><td>{}</td><td>{}</td></tr>",
            escape(status),
            escape(text(&response["description"])),
        )
        .expect(INFALLIBLE);
    }
    page.push_str("</table></details>\n");
}

/// Members of a query's answer, or of each item of a list, and the formats it comes in.
fn answer_html(page: &mut String, document: &Value, content: &Value) {
    let formats: Vec<&str> = members(content).map(|(name, _)| name.as_str()).collect();
    let whole = resolve(document, &content["application/json"]["schema"]);
    let items = &whole["properties"]["items"]["items"];
    let (what, row) = if items.is_null() {
        ("The answer", whole)
    } else {
        ("Each item", resolve(document, items))
    };
    line(page, "p", &format!("{what}, as {}", formats.join(", ")));
    if row["properties"].is_null() {
        return;
    }
    page.push_str("<table><tr><th>member</th><th>type</th><th>meaning</th></tr>\n");
    for (name, schema) in members(&row["properties"]) {
        let kinds: Vec<&str> = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().map(text).collect(),
            Value::String(kind) => vec![kind],
            _ => vec!["any"],
        };
        let format = schema["format"].as_str().map(|f| format!(" ({f})")).unwrap_or_default();
        writeln!(
            page,
            "<tr><td><code>{}</code></td><td>{}{}</td><td>{}</td></tr>",
            escape(name),
            escape(&kinds.join(" or ")),
            escape(&format),
            escape(text(&schema["description"])),
        )
        .expect(INFALLIBLE);
    }
    page.push_str("</table>\n");
}

const INFALLIBLE: &str = "writing to a string can't fail";

fn line(page: &mut String, tag: &str, content: &str) {
    if !content.is_empty() {
        writeln!(page, "<{tag}>{}</{tag}>", escape(content)).expect(INFALLIBLE);
    }
}

fn pre(page: &mut String, value: &Value) {
    let pretty = serde_json::to_string_pretty(value).expect("a JSON value is JSON");
    writeln!(page, "<pre>{}</pre>", escape(&pretty)).expect(INFALLIBLE);
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// The object that a `$ref` inside the document stands for.
fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str().and_then(|r| r.strip_prefix('#')) {
        Some(pointer) => document.pointer(pointer).unwrap_or(value),
        None => value,
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_page_shows_every_operation_and_escapes_what_it_shows() {
        let page = render(&json!({
            "info": {"title": "T & co", "description": "<script>"},
            "tags": [{"name": "Commands"}],
            "paths": {"/v1/x/{id}": {"get": {
                "tags": ["Commands"], "operationId": "x", "summary": "Reads <x>",
                "parameters": [{"$ref": "#/components/parameters/P"}],
                "responses": {"200": {"description": "fine"}},
            }}},
            "components": {"parameters": {"P": {"name": "id", "in": "path", "required": true}}},
        }));
        assert!(page.contains("<h1>T &amp; co</h1>"));
        assert!(page.contains("<b>GET</b> <code>/v1/x/{id}</code> Reads &lt;x&gt;"));
        assert!(page.contains("<code>id</code> (required)"));
        assert!(!page.contains("<script"));
        assert!(!page.contains("http://") && !page.contains("https://"), "nothing from elsewhere");
    }

    #[test]
    fn a_query_is_shown_with_the_members_of_its_answer() {
        let page = render(&json!({
            "tags": [{"name": "Queries"}],
            "paths": {"/v1/x": {"get": {
                "tags": ["Queries"], "operationId": "x",
                "responses": {"200": {"description": "fine", "content": {
                    "application/json": {"schema": {"$ref": "#/components/schemas/P"}},
                    "text/csv": {"schema": {"type": "string"}},
                }}},
            }}},
            "components": {"schemas": {"P": {"properties": {"items": {"items": {"properties": {
                "a": {"type": ["integer", "null"], "format": "int64", "description": "<b>"},
                "j": {},
            }}}}}}},
        }));
        assert!(page.contains("Each item, as application/json, text/csv"));
        assert!(
            page.contains("<code>a</code></td><td>integer or null (int64)</td><td>&lt;b&gt;</td>")
        );
        assert!(page.contains("<code>j</code></td><td>any</td>"));
    }

    #[test]
    fn a_kind_of_problem_has_a_page_and_a_made_up_one_has_none() {
        assert_eq!(problem("stale").unwrap().status(), StatusCode::OK);
        assert!(matches!(problem("made-up"), Err(Failure::NotFound)));
    }
}
