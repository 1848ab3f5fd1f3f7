"""Networks: shapes in, shapes out, no physics."""
