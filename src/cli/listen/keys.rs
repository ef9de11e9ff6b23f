//! Single keys of a terminal, as they are pressed. Ctrl-C stays what it is, and the terminal is as it was when
//! this is dropped.

use tokio::sync::mpsc;

pub struct Keys {
    pressed: mpsc::UnboundedReceiver<char>,
    #[cfg(unix)]
    before: rustix::termios::Termios,
}

impl Keys {
    /// None where nobody sits.
    #[cfg(unix)]
    pub fn start() -> Option<Self> {
        use std::io::{IsTerminal, Read};

        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

        let stdin = std::io::stdin();
        if !(stdin.is_terminal() && std::io::stderr().is_terminal()) {
            return None;
        }
        let before = tcgetattr(&stdin).ok()?;
        let mut single = before.clone();
        single.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Now, &single).ok()?;
        let (tell, pressed) = mpsc::unbounded_channel();
        // Waits for keys for as long as the process lives.
        std::thread::spawn(move || {
            for byte in stdin.lock().bytes() {
                let Ok(byte) = byte else { return };
                if tell.send(char::from(byte)).is_err() {
                    return;
                }
            }
        });
        Some(Self { pressed, before })
    }

    #[cfg(not(unix))]
    pub fn start() -> Option<Self> {
        None
    }

    /// The next key.
    pub async fn next(&mut self) -> char {
        match self.pressed.recv().await {
            Some(key) => key,
            // The terminal is gone; no key comes any more.
            None => std::future::pending().await,
        }
    }
}

#[cfg(unix)]
impl Drop for Keys {
    fn drop(&mut self) {
        use rustix::termios::{OptionalActions, tcsetattr};
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}
