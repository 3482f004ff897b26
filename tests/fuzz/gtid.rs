//! GTID sets of both families.
#![no_main]
use orchestrator_agent::coordinates::gtid::{MariaDbGtidList, GtidSet};
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(set) = GtidSet::parse(text) {
        let again = GtidSet::parse(&set.to_string()).expect("its own words");
        assert_eq!(set.to_string(), again.to_string());
        assert!(set.minus(&again).is_empty());
    }
    if let Ok(list) = MariaDbGtidList::parse(text) {
        assert_eq!(MariaDbGtidList::parse(&list.to_string()), Ok(list));
    }
});
