"""Who may see what: pure rules that import none of the other rooms."""
