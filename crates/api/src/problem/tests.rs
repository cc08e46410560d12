//! Every failure as the client sees it.

use super::*;

fn problem(failure: Failure) -> Problem {
    failure.into_problem(Uuid::nil())
}

fn header_of(problem: &Problem, name: &HeaderName) -> Option<String> {
    let found = problem.headers.iter().find(|(n, _)| n == name)?;
    Some(found.1.to_str().unwrap().to_owned())
}

#[test]
fn a_refusal_is_422_with_its_code_as_type_and_its_values_beside_the_detail() {
    let refused = Problem::refusal(Refusal {
        code: "out-of-stock".to_owned(),
        detail: "Not enough of A.".to_owned(),
        values: json!({"missing": [{"sku": "A", "wanted": 3, "available": 1}]}),
    });
    assert_eq!(
        refused.to_json(),
        json!({
            "type": "/problems/out-of-stock", "title": "Out of stock", "status": 422,
            "detail": "Not enough of A.",
            "missing": [{"sku": "A", "wanted": 3, "available": 1}],
        })
    );
}

#[test]
fn a_value_never_replaces_a_member_of_the_standard() {
    let refused = Problem::refusal(Refusal {
        code: "wrong-state".to_owned(),
        detail: "d".to_owned(),
        values: json!({"status": "shipped", "type": "x", "state": "shipped"}),
    });
    let sent = refused.to_json();
    assert_eq!(sent["status"], 422);
    assert_eq!(sent["type"], "/problems/wrong-state");
    assert_eq!(sent["state"], "shipped");
}

#[test]
fn what_may_be_sent_again_is_503_with_retry_after_and_what_may_not_is_4xx_or_500() {
    let errors = [
        SubmitError::Conflict { stream: "stock-A".to_owned(), expected: 1, actual: 2 },
        SubmitError::KeyReused,
        SubmitError::Limit { name: "events", value: 6000, limit: 5000 },
        SubmitError::Unstorable("x".to_owned()),
        SubmitError::Corrupt("x".to_owned()),
        SubmitError::NotActivated { kind: "OrderPlaced", version: 2 },
        SubmitError::Overloaded,
        SubmitError::Expired,
        SubmitError::Unavailable("x".to_owned()),
        SubmitError::OutcomeUnknown,
    ];
    let statuses = errors.map(|error| {
        let again = error.retry() == daybook_journal::Retry::SameKey;
        let problem = problem(Failure::Submit(error));
        assert_eq!(header_of(&problem, &header::RETRY_AFTER).is_some(), again);
        assert_eq!(problem.status == StatusCode::SERVICE_UNAVAILABLE, again);
        (problem.code, problem.status.as_u16())
    });
    let statuses: Vec<_> = statuses.iter().map(|(code, status)| (code.as_str(), *status)).collect();
    assert_eq!(
        statuses,
        [
            ("version-conflict", 412),
            ("key-reused", 422),
            ("limit-exceeded", 422),
            ("unstorable", 422),
            ("internal", 500),
            ("not-activated", 503),
            ("overloaded", 503),
            ("overloaded", 503),
            ("unavailable", 503),
            ("outcome-unknown", 503),
        ]
    );
}

#[test]
fn a_conflict_says_both_versions() {
    let conflict = SubmitError::Conflict { stream: "order-1".to_owned(), expected: 1, actual: 4 };
    let sent = problem(Failure::Submit(conflict)).to_json();
    assert_eq!((&sent["expected"], &sent["actual"]), (&json!(1), &json!(4)));
}

#[test]
fn what_is_not_activated_is_named() {
    let error = SubmitError::NotActivated { kind: "OrderPlaced", version: 2 };
    let sent = problem(Failure::Submit(error)).to_json();
    assert_eq!(sent["event_type"], "OrderPlaced");
    assert_eq!(sent["schema_version"], 2);
}

#[test]
fn internal_text_stays_inside() {
    for failure in [
        Failure::Internal("select secret from t".to_owned()),
        Failure::Unavailable("secret at 10.0.0.1".to_owned()),
        Failure::Submit(SubmitError::Corrupt("secret".to_owned())),
        Failure::Submit(SubmitError::Unavailable("secret".to_owned())),
        Failure::Submit(SubmitError::Unstorable("secret".to_owned())),
    ] {
        let sent = problem(failure).to_json().to_string();
        assert!(!sent.contains("secret"), "{sent}");
    }
    let id = Uuid::from_u128(7);
    let sent = Failure::Internal("x".to_owned()).into_problem(id).to_json();
    assert_eq!(sent["request_id"], id.to_string());
}

#[test]
fn a_bad_command_names_its_field_and_an_unknown_one_is_404() {
    let bad = |code, field: Option<&str>| {
        problem(Failure::Command(BadCommand {
            code,
            field: field.map(str::to_owned),
            detail: "d".to_owned(),
        }))
    };
    let invalid = bad("invalid-command", Some("lines[2].quantity"));
    assert_eq!(invalid.status, StatusCode::BAD_REQUEST);
    assert_eq!(invalid.to_json()["field"], "lines[2].quantity");
    assert_eq!(invalid.to_json()["in"], "body");
    assert_eq!(bad("unknown-command", None).status, StatusCode::NOT_FOUND);
}

#[test]
fn a_missing_key_is_asked_for_and_a_wrong_one_is_called_so() {
    let none = problem(Failure::Unauthenticated { given: false });
    assert_eq!(none.status, StatusCode::UNAUTHORIZED);
    assert_eq!(header_of(&none, &header::WWW_AUTHENTICATE).unwrap(), r#"Bearer realm="daybook""#);
    let wrong = problem(Failure::Unauthenticated { given: true });
    assert!(header_of(&wrong, &header::WWW_AUTHENTICATE).unwrap().contains("invalid_token"));
}

#[test]
fn kinds_are_sorted_and_none_stands_twice() {
    assert!(KINDS.windows(2).all(|pair| pair[0].code < pair[1].code));
}
