def caption(result): return ""
