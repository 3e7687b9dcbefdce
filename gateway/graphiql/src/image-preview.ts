/** Stands in for GraphiQL's picture preview, which would load addresses found in an answer. */

export const ImagePreview = Object.assign(() => null, { shouldRender: () => false });
