"""How many points a judge gives away: answers that say nothing, or that talk to the judge."""

from sharegptvideo.eval.integrity.attack import attack_judge
from sharegptvideo.eval.integrity.attacks import Attack, Case, cases_of, list_attacks, own_cases

__all__ = ["Attack", "Case", "attack_judge", "cases_of", "list_attacks", "own_cases"]
