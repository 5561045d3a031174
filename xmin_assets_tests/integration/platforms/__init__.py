"""Servers as they are rented: functions that are forbidden, lacking, or that raise."""
