"""The report of a run: one HTML page that fetches nothing, and plots."""

from nanotx.report.report import make_report, report_at_end

__all__ = ["make_report", "report_at_end"]
