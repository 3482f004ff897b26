use super::*;

const A: &str = "0f3c0f3c-0000-11ee-8000-0242ac110002";
const B: &str = "4bbb40fe-e539-11f1-b21b-02fc00000001";

fn set(text: &str) -> GtidSet {
    GtidSet::parse(text).unwrap()
}

impl GtidSet {
    /// True if every transaction of `other` is in this set.
    fn contains(&self, other: &Self) -> bool {
        other.minus(self).is_empty()
    }
}

fn normal(text: &str) -> String {
    set(text).to_string()
}

#[test]
fn normalises() {
    assert_eq!(normal(""), "");
    assert_eq!(normal(" \n"), "");
    assert_eq!(normal(&format!("{A}:1")), format!("{A}:1"));
    assert_eq!(
        normal(&format!("{B}:1-3,\n{}:5 ", A.to_uppercase())),
        format!("{A}:5,{B}:1-3")
    );
    assert_eq!(
        normal(&format!("{A}:5:7,\\n{B}:1-5\\n")),
        format!("{A}:5:7,{B}:1-5")
    );
    assert_eq!(
        normal(&format!("{A}:7-9:1-3:4:6,{A}:20,{A}:2-8")),
        format!("{A}:1-9:20")
    );
}

/// The Go agent understood only one interval whose start is one digit.
#[test]
fn intervals_of_any_number_and_length() {
    for text in [":12-20", ":23", ":1-5:7-9", ":1-41837:41839-41840:50000"] {
        assert_eq!(normal(&format!("{A}{text}")), format!("{A}{text}"));
    }
}

/// MySQL 9.7 prints both of these.
#[test]
fn tags() {
    assert_eq!(
        normal(&format!("{A}:1-5:mysqlsh:1")),
        format!("{A}:1-5:mysqlsh:1")
    );
    assert_eq!(normal(&format!("{A}:mysqlsh:1")), format!("{A}:mysqlsh:1"));
    assert_eq!(
        normal(&format!("{A}:Zeta:2:_a:4:1,{A}:3:ZETA:3")),
        format!("{A}:3:_a:1:4:zeta:2-3")
    );
    let long = "t".repeat(32);
    assert_eq!(normal(&format!("{A}:{long}:1")), format!("{A}:{long}:1"));
    assert!(!set(&format!("{A}:1-9")).contains(&set(&format!("{A}:x:1"))));
}

#[test]
fn garbage_is_an_error() {
    let tails = [
        "",
        ":",
        ":0",
        ":0-5",
        ":5-4",
        ":1-",
        ":-1",
        ":1--2",
        ":+1",
        ":1-2-3",
        ":1:",
        ":1,",
        ",",
        ":tag",
        ":tag:",
        ":1:tag",
        ":a:b:1",
        ":9223372036854775807",
        ":1-99999999999999999999999",
        ":t-g:1",
        ":1 2",
        ":\u{e9}:1",
        ":1;",
    ];
    for tail in tails {
        assert!(
            GtidSet::parse(&format!("{A}{tail}")).is_err(),
            "{tail:?} was accepted"
        );
    }
    let too_long = format!("{A}:{}:1", "t".repeat(33));
    for text in [
        &too_long,
        ":1",
        "0-1-2",
        &A[..35],
        &format!("x{}:1", &A[1..]),
        &format!("{}:1", A.replace('-', "0")),
    ] {
        assert!(GtidSet::parse(text).is_err(), "{text:?} was accepted");
    }
    let error = GtidSet::parse(&format!("{A}:1-5,{B}:5-4"))
        .unwrap_err()
        .to_string();
    assert!(error.contains(B) && error.is_ascii(), "{error}");
}

#[test]
fn differences() {
    let minus = |a: &str, b: &str| {
        set(&format!("{A}{a}"))
            .minus(&set(&format!("{A}{b}")))
            .to_string()
    };
    assert_eq!(minus(":1-10", ":1-10"), "");
    assert_eq!(minus(":1-10", ":11"), format!("{A}:1-10"));
    assert_eq!(minus(":1-10", ":3:5-6:10-20"), format!("{A}:1-2:4:7-9"));
    assert_eq!(minus(":1-3:5-7:9", ":2-6"), format!("{A}:1:7:9"));
    assert_eq!(minus(":1-5:x:1-5", ":x:2"), format!("{A}:1-5:x:1:3-5"));
    assert_eq!(
        set(&format!("{A}:1,{B}:1"))
            .minus(&set(&format!("{A}:1")))
            .to_string(),
        format!("{B}:1")
    );
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    /// Small numbers, so that sets overlap; sometimes the largest ones.
    fn set_text(&mut self) -> String {
        let mut members = Vec::new();
        for _ in 0..self.below(5) {
            let mut text = if self.below(2) == 0 {
                A.to_string()
            } else {
                B.to_uppercase()
            };
            for _ in 0..=self.below(4) {
                text.push_str(["", "", ":x", ":Y"][self.below(4) as usize]);
                let first = 1
                    + self.below(40)
                    + if self.below(20) == 0 {
                        (1 << 63) - 100
                    } else {
                        0
                    };
                text.push_str(&format!(":{first}-{}", first + self.below(12)));
            }
            members.push(text);
        }
        members.join(",\n")
    }
}

#[test]
fn laws_of_sets() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut partly = 0;
    for _ in 0..5000 {
        let (ta, tb) = (random.set_text(), random.set_text());
        let (a, b) = (set(&ta), set(&tb));
        assert_eq!(set(&a.to_string()), a, "{ta}");
        let union = set(&[a.to_string(), b.to_string()]
            .into_iter()
            .filter(|t| !t.is_empty())
            .collect::<Vec<_>>()
            .join(","));
        assert!(union.contains(&a) && union.contains(&b), "{a} | {b}");
        let (only_a, only_b) = (a.minus(&b), b.minus(&a));
        let both = a.minus(&only_a);
        assert!(
            a.contains(&only_a) && a.contains(&both) && b.contains(&both),
            "{a} | {b}"
        );
        assert_eq!(only_a.minus(&b), only_a, "{a} | {b}");
        assert_eq!(both, b.minus(&only_b), "{a} | {b}");
        assert_eq!(union.minus(&b), only_a, "{a} | {b}");
        assert_eq!(a.contains(&b), only_b.is_empty());
        assert_eq!(a == b, a.contains(&b) && b.contains(&a), "{a} | {b}");
        partly += u32::from(!only_a.is_empty() && !both.is_empty());
    }
    assert!(
        partly > 1000,
        "the generator made too few sets that overlap: {partly}"
    );
}

/// The same as a set of single numbers would say.
#[test]
fn minus_agrees_with_counting() {
    let mut random = Random(88_172_645_463_325_252);
    for _ in 0..2000 {
        let mut side = || {
            (0..random.below(6))
                .map(|_| (random.below(30) + 1, random.below(6)))
                .map(|(n, more)| (n, n + more))
                .collect::<Vec<_>>()
        };
        let (mut a, mut b) = (side(), side());
        let left: Vec<u64> = (1..40)
            .filter(|n| {
                a.iter().any(|i| i.0 <= *n && *n <= i.1)
                    && !b.iter().any(|i| i.0 <= *n && *n <= i.1)
            })
            .collect();
        merge(&mut a);
        merge(&mut b);
        let got: Vec<u64> = subtract(&a, &b)
            .into_iter()
            .flat_map(|(from, to)| from..=to)
            .collect();
        assert_eq!(got, left, "{a:?} minus {b:?}");
    }
}

#[test]
fn mariadb_lists() {
    let list = |text: &str| MariaDbGtidList::parse(text).unwrap();
    assert_eq!(list("").to_string(), "");
    assert_eq!(
        list(" 1-10112-7, 0-10111-5\n").to_string(),
        "0-10111-5,1-10112-7"
    );
    assert_eq!(
        list("4294967295-4294967295-18446744073709551615").to_string(),
        "4294967295-4294967295-18446744073709551615"
    );
    for bad in [
        "0",
        "0-1",
        "0-1-",
        "0-1-2-3",
        "0-1-2,",
        ",0-1-2",
        "a-1-2",
        "-1-2-3",
        "0-1-+2",
        "4294967296-1-1",
        "0-1-2,0-2-3",
        "0-1-18446744073709551616",
        "0f3c0f3c-0000-11ee-8000-0242ac110002",
    ] {
        assert!(MariaDbGtidList::parse(bad).is_err(), "{bad:?} was accepted");
    }
}
