use serde_json::json;

use super::list;

#[test]
fn names_have_their_path_and_texts_are_themselves() {
    let names = json!([{"name": "Paper Heron", "path": "indicates"}, {"name": "Lamp", "path": "misp_attribute"}]);
    assert_eq!(list(&names), "Paper Heron (indicates), Lamp (misp attribute)");
    assert_eq!(list(&json!(["one", "two\n"])), "one, two\\u{a}");
    assert_eq!(list(&json!(null)), "");
}
