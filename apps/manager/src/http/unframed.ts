import type { RequestHandler } from 'express';

/**
 * No page of another site may show ours in a frame, where users click without knowing on what; types aren't guessed.
 */
export const unframed: RequestHandler = (_request, response, next) => {
  response.setHeader('X-Content-Type-Options', 'nosniff');
  response.setHeader('X-Frame-Options', 'DENY');
  response.setHeader('Content-Security-Policy', "frame-ancestors 'none'");
  next();
};
