//! The structure of `src`: what may import what, and how large a function may be.

mod numbers;

use crate::support::project;

#[test]
fn imports_point_down_and_make_no_circle() {
    let n = numbers::count(project());
    assert!(n.arrows.len() > 300, "{} imports found", n.arrows.len());
    assert_eq!(n.upward, [""; 0]);
    let circles = n.circles.iter().flat_map(|c| numbers::ties(c, &n.arrows));
    assert_eq!(circles.collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn the_source_keeps_to_its_rules() {
    let n = numbers::count(project());
    assert_eq!(n.text_searches, [""; 0], "in messages of our own");
    assert_eq!(n.match_on_bool, [""; 0]);
    assert_eq!(n.cited_papers, [""; 0], "documents that are not here");
    assert!(n.long.len() <= 10, "functions over 60 lines: {:?}", n.long);
    assert!(n.long.iter().all(|f| f.0 <= 80), "{:?}", n.long);
}
