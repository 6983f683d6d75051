//! The protocol: frames, startup packets and the messages we open or author.
