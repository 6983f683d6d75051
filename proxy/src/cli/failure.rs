//! stub
#[derive(Debug)] pub struct Failure { pub code: u8, pub message: String, pub hint: Option<String> }
#[allow(missing_docs)]
impl Failure {
 pub fn usage(m: impl Into<String>) -> Self { Self{code:2,message:m.into(),hint:None} }
 pub fn outside(m: impl Into<String>) -> Self { Self{code:3,message:m.into(),hint:None} }
 pub fn hint(mut self, h: impl Into<String>) -> Self { self.hint=Some(h.into()); self }
}
impl std::fmt::Display for Failure { fn fmt(&self, f:&mut std::fmt::Formatter<'_>)->std::fmt::Result { write!(f,"{}",self.message)?; if let Some(h)=&self.hint { write!(f,"\n  {h}")?; } Ok(()) } }
