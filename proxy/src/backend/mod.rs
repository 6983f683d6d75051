//! What is known about one server connection, as plain values: who it is bound to, which statements it has prepared,
//! which settings were given to it. The session decides by it and the pool keeps it; neither knows the other.
