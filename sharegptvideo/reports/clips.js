// Moves clips to their sampled frames: a mark on the line of time seeks, and the line follows.
//
// Listens at the document, for clips come and go in the viewer of a run.
"use strict";
{
  const of = (event) => event.target.closest?.(".clip");

  // Events of videos do not rise; they are caught on their way down.
  const hear = (name, act) => document.addEventListener(name, (event) => {
    if (of(event) && event.target.tagName === "VIDEO") act(of(event), event.target);
  }, true);

  function at(clip, seconds, whole) {
    const marks = [...clip.querySelectorAll(".times button")];
    clip.querySelector(".times").style.setProperty("--at", whole ? Math.min(seconds / whole, 1) : 0);
    const passed = marks.filter((mark) => Number(mark.dataset.time) <= seconds + 0.02).length - 1;
    clip.querySelectorAll(".stills figure").forEach((still, number) => still.classList.toggle("on", number === passed));
  }

  // Where the file is not there or does not play, the sampled frames take its place.
  const lost = (clip) => clip.classList.add("gone");
  hear("error", lost);
  hear("timeupdate", (clip, video) => at(clip, video.currentTime, video.duration));
  for (const video of document.querySelectorAll(".clip video")) {
    if (video.error) lost(video.closest(".clip"));
  }

  document.addEventListener("click", (event) => {
    const mark = event.target.closest?.(".times button"), clip = of(event);
    if (!mark || !clip) return;
    const number = [...mark.parentNode.children].indexOf(mark), video = clip.querySelector("video");
    if (video && !clip.classList.contains("gone")) {
      video.pause();
      video.currentTime = Number(mark.dataset.time) + 0.005; // into the frame, not to its edge
      return;
    }
    clip.classList.add("held");
    clip.querySelector(".turn").style.setProperty("--i", number);
    clip.querySelectorAll(".stills figure").forEach((still, place) => still.classList.toggle("on", place === number));
  });
}
