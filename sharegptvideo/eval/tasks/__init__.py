"""Tasks: one YAML file each, named like the task. `questions` reads the rows of one."""

from sharegptvideo.eval.tasks.loader import list_tasks, load_task, parse_task, task_names
from sharegptvideo.eval.tasks.questions import chosen_questions, load_questions, media_folder
from sharegptvideo.eval.tasks.schema import AnnotationFiles, Task

__all__ = [
    "AnnotationFiles",
    "Task",
    "chosen_questions",
    "list_tasks",
    "load_questions",
    "load_task",
    "media_folder",
    "parse_task",
    "task_names",
]
