//! Lists and CSV.

use super::*;

/// What they call unrecognised is either skipped or has a remark.
pub(super) fn compare(load: &Load, expected: &Value) -> Comparison {
    let whole_lines = expected["format"] == "plain";
    let is_theirs = |indicator: &Indicator| !whole_lines || indicator.name.is_none();
    let remarked = load.indicators.iter().filter(|indicator| !is_theirs(indicator)).count() as u64;
    let mut comparison = Comparison::default();
    let unrecognised = count(expected, "unrecognised");
    let found = remarked + load.skipped.len() as u64;
    if unrecognised != found {
        comparison.wrong(format!(
            "unrecognised: expected {unrecognised}, found {} skipped and {remarked} with a remark",
            load.skipped.len()
        ));
    }
    comparison.explain("remark", remarked);
    let theirs = values(load.indicators.iter().filter(is_theirs));
    comparison.add(compare_values(&bounds(&counts(expected, "unique_by_kind")), &theirs, &BTreeMap::new()));
    comparison
}

/// Rows are compared with rows, and values with what the cells hold.
pub(super) fn compare_csv(path: &Path, expected: &Value) -> Comparison {
    let load = match read(path, "auto") {
        Ok(load) => load,
        Err(error) => return error.into(),
    };
    let mut comparison = Comparison::default();
    let how = load.read_as.keys().next().unwrap();
    for column in expected["value_columns"].as_array().unwrap() {
        let column = column.as_str().unwrap();
        if !how.contains(&format!("value from `{column}`")) {
            comparison.wrong(format!("the values are not read from {column}: {how}"));
        }
    }
    comparison.same("rows", count(expected, "rows"), load.read);
    let cells: u64 = counts(expected, "by_kind").values().sum();
    comparison.explain("row", cells.saturating_sub(load.read));
    let has_port = |value: &Observable| {
        let Observable::Url(url) = value else { return false };
        !url.contains("://") && url.split('/').next().is_some_and(|host| host.contains(':'))
    };
    let (with_port, others): (Vec<_>, Vec<_>) =
        load.indicators.iter().flat_map(|item| item.observables).partition(has_port);
    comparison.explain("url-port", with_port.len() as u64);
    let never = can_never_match(&load);
    let unrecognised = with_port.len() as u64 + (load.skipped.len() + load.trimmed.len()) as u64;
    let unrecognised = unrecognised - never.values().sum::<u64>();
    if unrecognised != count(expected, "unrecognised") {
        let wanted = count(expected, "unrecognised");
        comparison.wrong(format!("unrecognised: expected {wanted}, found {unrecognised}: {:?}", load.skipped));
    }
    let mut ours: BTreeMap<&'static str, BTreeSet<Observable>> = BTreeMap::new();
    for value in others {
        ours.entry(value.type_name()).or_default().insert(value);
    }
    comparison.add(compare_values(&bounds(&counts(expected, "unique_by_kind")), &ours, &never));
    comparison
}
