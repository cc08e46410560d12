//! stub
mod ids; mod line; mod plan; mod returns; mod row; mod source; mod stock;
