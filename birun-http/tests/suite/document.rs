//! The OpenAPI document: the committed copy, the served one, and the routes.

use std::collections::BTreeSet;

use birun_core::testing::harness::Suite;
use serde_json::Value;

use crate::support::{Api, get, operations};

const COMMITTED: &str = include_str!("../../openapi.json");

pub(crate) fn cases(suite: &mut Suite) {
    suite.plain("the_committed_document_is_the_one_that_this_version_makes", &[], committed_is_current);
    suite.test("the_served_document_is_the_committed_one", &[], served_is_committed);
    suite.plain("every_operation_and_field_is_described", &[], everything_is_described);
    suite.test("the_page_loads_nothing_from_elsewhere", &[], page_is_self_contained);
}

fn committed_is_current() {
    let current = birun_http::openapi_document("");
    assert!(
        COMMITTED == current,
        "birun-http/openapi.json is out of date; renew it with\n  \
         cargo run -q -- openapi > birun-http/openapi.json"
    );
}

async fn served_is_committed() {
    let api = Api::start().await;
    assert_eq!(api.expect(200, get("/api/v1/openapi.json")).await.text(), COMMITTED);
}

/// Descriptions are for people: operations, their parameters, and what answers hold.
fn everything_is_described() {
    let document: Value = serde_json::from_str(COMMITTED).unwrap();
    let mut ids = BTreeSet::new();
    for operation in operations(&document) {
        assert!(ids.insert(operation.id.to_owned()), "{} is there twice", operation.id);
        let described = &document["paths"][operation.path][operation.method.as_str().to_lowercase()];
        assert!(described["summary"].is_string(), "{}", operation.id);
        assert!(described["tags"].is_array(), "{}", operation.id);
        for parameter in described["parameters"].as_array().into_iter().flatten() {
            assert!(parameter["description"].is_string(), "{} {}", operation.id, parameter["name"]);
        }
        for (status, response) in &operation.responses {
            assert!(!response["description"].as_str().unwrap().is_empty(), "{} {status}", operation.id);
        }
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(schema["description"].is_string() || name.starts_with("Page_"), "{name} has no description");
    }
}

async fn page_is_self_contained() {
    let api = Api::start().await;
    let page = api.expect(200, get("/api/docs").token(None)).await;
    assert!(!page.text().contains("://"), "{}", page.text());
    assert!(page.header("content-security-policy").unwrap().contains("script-src 'self'"));
    let script = api.expect(200, get("/api/docs/rapidoc.js").token(None)).await;
    assert_eq!(script.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert!(script.body.len() > 100_000, "{} bytes", script.body.len());
}
