// What went wrong between a page and the service, in words that say what to do.

const SAID = {
  401: "The service asks for its key: reload the page and give it as the password.",
  503: (told) => `The service does not answer yet: ${told} Try again in a moment.`,
  507: "The disk of the server is full. Once somebody has made room there, try again.",
};
const UNREACHED = "The service cannot be reached; it may be starting again. Try again in a moment.";

/** A failure in words that say what to do. */
export function said(error, unreached = UNREACHED) {
  if (!error.status) return unreached;
  const words = SAID[error.status] ?? ((told) => told);
  return typeof words === "string" ? words : words(error.message);
}

/** Whether it is about the request: then it says of each field what is wrong with it. */
export const namesFields = (error) => Boolean(error.status) && !SAID[error.status];

/** Why a page that asks by itself again and again has nothing new. */
export const noNews = (error) => (error.status === 401 ? said(error) : `No news: ${error.message}. Trying again.`);
