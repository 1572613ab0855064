"""`python -m sharegptvideo.eval.lmms_eval_tasks` prints the folder for `--include_path`."""

from sharegptvideo.eval.lmms_eval_tasks import folder

print(folder())
