// openImage for files: the image reader itself takes bytes and knows no file system.

import { ImageFile } from './filesystem/image-file.ts';
import { type ComposefsImage, openImage } from './image-reader/index.ts';

/**
 * Opens a composefs image, given as the path of a file or as its bytes. The whole image is held in
 * memory; a later change of the file has no effect.
 *
 * @throws ImageError if it is missing, damaged or not a composefs image.
 * @throws UnsupportedFeatureError if it needs something this reader does not implement.
 */
export function openImageFile(image: string | Uint8Array): ComposefsImage {
  if (typeof image !== 'string') return openImage(image);
  return openImage(new ImageFile(image).load().bytes);
}
