//! The table that is printed.

use std::fmt;

/// Lines in the order in which they were measured.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<Line>);

/// One measure.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) measure: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) goal: Goal,
    /// Who did the same work in the same run, and how it fared.
    pub(crate) peer: Option<(&'static str, f64)>,
}

/// What a line must reach.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// So much, or more.
    AtLeast(f64),
    /// Less than so much.
    Below(f64),
    /// So much of what the peer reached, or more.
    ShareOfPeer(f64),
    /// Nothing: it is there to be compared with.
    None,
}

impl Table {
    /// Adds a line, and shows it at once to whoever waits.
    pub(crate) fn add(&mut self, line: Line) {
        eprintln!("  {}: {} {}", line.measure, number(line.value), line.unit);
        self.0.push(line);
    }
}

impl Line {
    pub(crate) fn new(measure: impl Into<String>, value: f64, unit: &'static str, goal: Goal) -> Self {
        Self { measure: measure.into(), value, unit, goal, peer: None }
    }

    pub(crate) fn beside(mut self, peer: &'static str, value: f64) -> Self {
        self.peer = Some((peer, value));
        self
    }

    /// What the value is compared with for the verdict: the limit, or the peer.
    fn ratio(&self) -> Option<f64> {
        let to_peer = self.peer.map(|(_, peer)| self.value / peer);
        match self.goal {
            Goal::AtLeast(limit) | Goal::Below(limit) => Some(self.value / limit),
            Goal::ShareOfPeer(_) | Goal::None => to_peer,
        }
    }

    fn verdict(&self) -> &'static str {
        let met = match self.goal {
            Goal::AtLeast(limit) => self.value >= limit,
            Goal::Below(limit) => self.value < limit,
            Goal::ShareOfPeer(share) => self.ratio().is_some_and(|ratio| ratio >= share),
            Goal::None => return "",
        };
        if met { "yes" } else { "NO" }
    }

    fn limit(&self) -> String {
        match self.goal {
            Goal::AtLeast(limit) => format!("≥ {} {}", number(limit), self.unit),
            Goal::Below(limit) => format!("< {} {}", number(limit), self.unit),
            Goal::ShareOfPeer(share) => format!("≥ {:.0} % of the peer", share * 100.0),
            Goal::None => String::new(),
        }
    }

    fn cells(&self) -> [String; 6] {
        [
            self.measure.clone(),
            format!("{} {}", number(self.value), self.unit),
            self.limit(),
            self.peer.map_or_else(String::new, |(name, value)| format!("{name}: {} {}", number(value), self.unit)),
            self.ratio().map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            self.verdict().to_owned(),
        ]
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["measure", "measured", "limit", "peer in the same run", "ratio", "met"].map(str::to_owned);
        let rows: Vec<[String; 6]> = std::iter::once(head).chain(self.0.iter().map(Line::cells)).collect();
        let widths: [usize; 6] = std::array::from_fn(|column| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default()
        });
        for (index, row) in rows.iter().enumerate() {
            for (cell, width) in row.iter().zip(widths) {
                write!(f, "| {cell:width$} ")?;
            }
            writeln!(f, "|")?;
            if index == 0 {
                let rule = widths.map(|width| "-".repeat(width + 2));
                writeln!(f, "|{}|", rule.join("|"))?;
            }
        }
        Ok(())
    }
}

/// A number with as many digits as say something.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => thousands(value),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let head = digits.len() % 3;
    let (head, rest) = digits.split_at(head);
    let groups = rest.as_bytes().chunks(3).map(String::from_utf8_lossy);
    let parts: Vec<String> =
        std::iter::once(head.to_owned()).filter(|head| !head.is_empty()).chain(groups.map(Into::into)).collect();
    parts.join(",")
}

/// The middle one of several measurements.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
