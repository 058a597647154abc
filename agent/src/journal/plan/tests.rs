use super::*;
use crate::journal::segment::{INDEXES, TABLES};

/// A closed segment.
fn segment() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(TABLES).unwrap();
    INDEXES.iter().for_each(|index| connection.execute_batch(index).unwrap());
    connection
}

/// How SQLite goes about a page of `query`, and by which of `expected` indexes it finds the records.
fn explained(query: &Query, after: Option<(i64, i64)>) -> Vec<String> {
    let connection = segment();
    connection
        .execute_batch(
            "INSERT INTO record VALUES (1, 'a', NULL, 1, 1, 1, 1, 'exec', 'killed', 1, '/bin/sh', '/bin/sh', 'ab', x'00', x'00',
               1, 'c2.example', '{}');
             INSERT INTO indicator VALUES (1, 0, 1, 'indicator--1', 'ab', 'feed');",
        )
        .unwrap();
    let plan = Plan::new(query, &connection).unwrap();
    assert!(!plan.is_empty(), "{query:?}");
    let filter = plan.filter(Order::NewestFirst, after, 50);
    let sql = format!(
        "EXPLAIN QUERY PLAN SELECT row, revision, time, id, record FROM record WHERE {} ORDER BY time DESC, row DESC LIMIT 50",
        filter.sql()
    );
    let mut statement = connection.prepare(&sql).unwrap();
    let steps = statement.query_map(rusqlite::params_from_iter(&filter.parameters), |row| row.get("detail")).unwrap();
    steps.map(Result::unwrap).collect()
}

#[test]
fn no_filter_reads_the_whole_table() {
    let time = Some("2026-11-23T12:00:00Z".parse().unwrap());
    let destination = |text: &str| Some(text.parse().unwrap());
    let any = Query::default;
    let cases = [
        ("record_time", any()),
        ("record_time", Query { until: time, ..any() }),
        ("record_time", Query { since: time, ..any() }),
        ("record_repeated", Query { since: time, until: time, ..any() }),
        ("record_time", Query { since: time, until: time, ..any() }),
        ("record_pid", Query { pid: Some(1), ..any() }),
        ("record_exe", Query { exe: Some("sh".to_owned()), ..any() }),
        ("record_path", Query { exe: Some("/bin/*".to_owned()), ..any() }),
        ("record_sha256", Query { hash: Some("AB".to_owned()), ..any() }),
        ("indicator_value", Query { hash: Some("ab".to_owned()), ..any() }),
        ("indicator_value", Query { indicator: Some("AB".to_owned()), ..any() }),
        ("indicator_id", Query { indicator: Some("indicator--1".to_owned()), ..any() }),
        ("record_ip", Query { destination: destination("203.0.113.7"), ..any() }),
        ("record_ip", Query { destination: destination("203.0.113.0/24"), ..any() }),
        ("record_ip_given", Query { destination: destination("203.0.113.0/24"), ..any() }),
        ("record_domain", Query { destination: destination("c2.example"), ..any() }),
        ("record_domain", Query { destination: destination("example"), ..any() }),
    ];
    for (index, query) in cases {
        for after in [None, Some((7, 7))] {
            for since in [query.since, time] {
                let query = Query { since, ..query.clone() };
                let steps = explained(&query, after);
                let uses = |step: &String| {
                    step.contains(&format!("INDEX {index} ")) || step.ends_with(&format!("INDEX {index}"))
                };
                assert!(steps.iter().any(uses), "{index}: {query:?}: {steps:#?}");
                for step in &steps {
                    let whole = step.starts_with("SCAN record") && !step.contains("USING");
                    assert!(!whole && !step.starts_with("SCAN indicator"), "{query:?}: {steps:#?}");
                }
            }
        }
    }
}

#[test]
fn what_an_index_holds_in_order_is_not_sorted_before_it_is_cut() {
    for query in [
        Query::default(),
        Query { pid: Some(1), ..Query::default() },
        Query { exe: Some("sh".to_owned()), ..Query::default() },
        Query { indicator: Some("indicator--1".to_owned()), ..Query::default() },
        Query { destination: Some("203.0.113.7".parse().unwrap()), ..Query::default() },
    ] {
        let steps = explained(&query, Some((7, 7)));
        let sorts = |pair: &[String]| pair[0].starts_with("SEARCH") && pair[1].starts_with("USE TEMP B-TREE");
        // The last is that of the page, which the lists are put into.
        let (_, lists) = steps.split_last().unwrap();
        assert!(!lists.windows(2).any(sorts), "{query:?}: {steps:#?}");
    }
}

#[test]
fn what_a_segment_has_nothing_of_is_not_looked_for() {
    let connection = segment();
    for query in [
        Query { indicator: Some("x".to_owned()), ..Query::default() },
        Query { hash: Some("x".to_owned()), ..Query::default() },
        Query { exe: Some("x".to_owned()), ..Query::default() },
    ] {
        assert!(Plan::new(&query, &connection).unwrap().is_empty(), "{query:?}");
    }
}
