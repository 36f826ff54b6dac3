"""Teach a student to live with any depth plan: losses, data, plan sampling, the loop."""
