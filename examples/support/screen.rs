//! A table that is drawn over itself on a terminal, and plain lines everywhere else.

use std::io::{self, IsTerminal, Write};

/// Standard output as a place for a live table.
pub struct Screen {
    terminal: bool,
    drawn: usize,
}

impl Screen {
    /// Finds out whether standard output is a terminal.
    pub fn stdout() -> Screen {
        Screen { terminal: io::stdout().is_terminal(), drawn: 0 }
    }

    /// Draws `table` in place of the one drawn before. Where standard output is no terminal, writes `line` instead.
    ///
    /// # Errors
    /// If standard output cannot be written, such as when the reader of a pipe has gone.
    pub fn draw(&mut self, table: &str, line: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if !self.terminal {
            return writeln!(out, "{line}");
        }
        if self.drawn > 0 {
            // Up to the first line of the last table, and everything from there on away.
            write!(out, "\x1b[{}A\x1b[J", self.drawn)?;
        }
        self.drawn = table.lines().count();
        writeln!(out, "{}", table.trim_end_matches('\n'))?;
        out.flush()
    }
}
