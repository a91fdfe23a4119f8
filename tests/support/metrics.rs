//! One scrape of `/metrics`, in the Prometheus text format.

use std::collections::BTreeMap;

/// All samples of one scrape.
#[derive(Clone, Debug)]
pub struct Metrics(Vec<Sample>);

#[derive(Clone, Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// Parses the text format, version 0.0.4.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Metrics(
            lines.map(|line| Sample::parse(line).unwrap_or_else(|| panic!("no sample: {line:?}"))).collect(),
        )
    }

    /// The sum over all series of this name that have at least these labels; 0 if there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.series(name)
            .filter(|s| labels.iter().all(|(k, v)| s.labels.get(*k).is_some_and(|have| have == v)))
            .map(|s| s.value)
            .sum()
    }

    /// [`Metrics::sum`] as a whole number.
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let sum = self.sum(name, labels);
        assert!(sum >= 0.0 && sum.fract() == 0.0, "{name} is {sum}");
        sum as u64
    }

    /// Whether there is any series of this name.
    pub fn has(&self, name: &str) -> bool {
        self.series(name).next().is_some()
    }

    /// Every value that a label has in the series of this name.
    pub fn label_values(&self, name: &str, label: &str) -> Vec<&str> {
        self.series(name).filter_map(|s| s.labels.get(label)).map(String::as_str).collect()
    }

    fn series(&self, name: &str) -> impl Iterator<Item = &Sample> {
        self.0.iter().filter(move |s| s.name == name)
    }
}

impl Sample {
    fn parse(line: &str) -> Option<Self> {
        let at = line.find(['{', ' '])?;
        let (name, rest) = line.split_at(at);
        let mut labels = BTreeMap::new();
        let value = match rest.strip_prefix('{') {
            None => rest,
            Some(mut rest) => loop {
                if let Some(after) = rest.strip_prefix('}') {
                    break after;
                }
                let (label, after) = rest.split_once("=\"")?;
                let (value, after) = unquote(after)?;
                labels.insert(label.to_owned(), value);
                rest = after.strip_prefix(',').unwrap_or(after);
            },
        };
        Some(Sample { name: name.to_owned(), labels, value: value.trim().parse().ok()? })
    }
}

/// The text up to the closing quote, unescaped, and what follows the quote.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    loop {
        match chars.next()? {
            (at, '"') => return Some((value, &text[at + 1..])),
            (_, '\\') => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            (_, other) => value.push(other),
        }
    }
}

#[test]
fn the_text_format_is_read() {
    let scrape = Metrics::parse(concat!(
        "# TYPE a counter\n",
        "a{rule=\"x,\\\"y}\\\"\",reason=\"\"} 3\n",
        "a{rule=\"z\",reason=\"r\"} 4\n",
        "b 0.5\n",
    ));
    assert_eq!(scrape.count("a", &[]), 7);
    assert_eq!(scrape.count("a", &[("rule", "x,\"y}\"")]), 3);
    assert_eq!(scrape.count("a", &[("reason", "r"), ("rule", "z")]), 4);
    assert_eq!(scrape.count("a", &[("reason", "other")]), 0);
    assert!((scrape.sum("b", &[]) - 0.5).abs() < 1e-9);
    assert!(!scrape.has("c"));
    assert_eq!(scrape.label_values("a", "reason"), ["", "r"]);
}
