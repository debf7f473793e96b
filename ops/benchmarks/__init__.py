"""Development only: what one pooled client per process costs and brings, measured on real workers."""
