//! Asking before something is removed.

use crate::cli::lookup::LookupError;
use std::io::{BufRead, IsTerminal, Write};

/// Whether to go on: `yes` was given, or the user says so on the terminal. Without a terminal nobody can be
/// asked, which is an error.
pub fn confirmed(yes: bool, question: &str, err: &mut dyn Write) -> Result<bool, LookupError> {
    if yes {
        return Ok(true);
    }
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(LookupError::Nothing(
            "nothing was removed: there is no terminal to ask on; --yes removes without asking"
                .to_owned(),
        ));
    }
    write!(err, "{question} [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    Ok(is_yes(&answer))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_counts() {
        for (answer, yes) in [
            ("y\n", true),
            ("YES\n", true),
            ("\n", false),
            ("", false),
            ("yep", false),
        ] {
            assert_eq!(is_yes(answer), yes, "{answer:?}");
        }
    }
}
