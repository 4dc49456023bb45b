//! Colours. They never carry a meaning alone.

use std::fmt::Display;

use anstyle::{AnsiColor, Style};

/// When colours are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ColorChoice {
    /// On a terminal.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl ColorChoice {
    /// The colours for a stream.
    pub(crate) const fn paint(self, is_terminal: bool) -> Paint {
        Paint(match self {
            Self::Auto => is_terminal,
            Self::Always => true,
            Self::Never => false,
        })
    }
}

/// Paints texts, or leaves them as they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint(pub(crate) bool);

/// What a text is, to the eye.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Bad,
    Warn,
    Busy,
    Hint,
    Faint,
}

impl Tone {
    /// The tone of a status.
    pub(crate) fn of_status(status: &str) -> Self {
        match status {
            "succeeded" | "ok" | "approved" | "done" => Self::Good,
            "failed" | "timed_out" | "unreachable" | "lost" | "revoked" | "refused" => Self::Bad,
            "cancelled" | "skipped" | "pending" | "waiting" => Self::Warn,
            "running" | "queued" => Self::Busy,
            _ => Self::Plain,
        }
    }

    /// The colour that a table cell of this tone gets.
    pub(super) const fn color(self) -> Option<AnsiColor> {
        match self {
            Self::Good => Some(AnsiColor::Green),
            Self::Bad => Some(AnsiColor::Red),
            Self::Warn => Some(AnsiColor::Yellow),
            Self::Busy | Self::Hint => Some(AnsiColor::Cyan),
            Self::Plain | Self::Faint => None,
        }
    }

    fn style(self) -> Style {
        let style = Style::new();
        match (self, self.color()) {
            (Self::Faint, _) => style.dimmed(),
            (Self::Bad | Self::Warn | Self::Hint, Some(color)) => style.fg_color(Some(color.into())).bold(),
            (_, Some(color)) => style.fg_color(Some(color.into())),
            (_, None) => style,
        }
    }
}

/// The colours by which targets are told apart.
const TARGETS: [AnsiColor; 6] =
    [AnsiColor::Cyan, AnsiColor::Magenta, AnsiColor::Blue, AnsiColor::Green, AnsiColor::Yellow, AnsiColor::BrightBlue];

impl Paint {
    /// The text in a tone.
    pub(crate) fn tone(self, tone: Tone, text: impl Display) -> String {
        self.with(tone.style(), text)
    }

    /// The text in the colour of the target with this place in the order.
    pub(crate) fn target(self, position: usize, text: impl Display) -> String {
        let color = TARGETS.get(position % TARGETS.len()).copied();
        self.with(Style::new().fg_color(color.map(Into::into)), text)
    }

    fn with(self, style: Style, text: impl Display) -> String {
        if self.0 { format!("{style}{text}{style:#}") } else { text.to_string() }
    }
}
