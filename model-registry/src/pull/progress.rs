//! What a person sees of a pull: bars on a terminal, plain lines elsewhere, nothing if not wanted.

use std::{borrow::Cow, io::IsTerminal as _, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Where progress is shown.
#[derive(Debug)]
pub struct Progress {
    bars: MultiProgress,
    shown: Shown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Bars,
    Lines,
    Nothing,
}

impl Progress {
    /// On standard error: bars on a terminal, plain lines elsewhere.
    pub fn on_stderr() -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { bars: MultiProgress::new(), shown: if terminal { Shown::Bars } else { Shown::Lines } }
    }

    /// Nowhere.
    pub fn silent() -> Self {
        Self { bars: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()), shown: Shown::Nothing }
    }

    /// Says a line.
    pub(crate) fn note(&self, text: &str) {
        match self.shown {
            Shown::Bars => self.bars.suspend(|| eprintln!("{text}")),
            Shown::Lines => eprintln!("{text}"),
            Shown::Nothing => {}
        }
    }

    /// Whether other programs may draw on standard error.
    pub(crate) fn is_terminal(&self) -> bool {
        self.shown == Shown::Bars
    }

    /// A bar for so many bytes; without a number, one that only shows how many there were.
    pub(crate) fn bytes(&self, what: impl Into<Cow<'static, str>>, total: Option<u64>) -> ProgressBar {
        let (bar, style) = match total {
            Some(total) => {
                let style = "{msg:28!} {bar:30} {bytes:>11} of {total_bytes:11} {bytes_per_sec:>12} {eta:>4}";
                (ProgressBar::new(total), style)
            }
            None => (ProgressBar::new_spinner(), "{spinner} {msg} {bytes}"),
        };
        // The templates are constants; were one wrong, the plain style would do.
        let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = self.bars.add(bar.with_style(style).with_message(what));
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}
