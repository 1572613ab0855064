"""Tasks: one YAML file each, named like the task. `questions` reads the rows of one."""

from sharegptvideo.eval.tasks.loader import list_tasks, load_task, parse_task, task_names
from sharegptvideo.eval.tasks.questions import load_questions, media_folder
from sharegptvideo.eval.tasks.schema import AnnotationFiles, Task

__all__ = [
    "AnnotationFiles",
    "Task",
    "list_tasks",
    "load_questions",
    "load_task",
    "media_folder",
    "parse_task",
    "task_names",
]
